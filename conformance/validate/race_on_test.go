//go:build race

package validate

// raceDetector says whether the tests run with it.
const raceDetector = true
