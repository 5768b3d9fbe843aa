//go:build !race

package resources

// raceDetector says whether the tests run with it.
const raceDetector = false
