// Package matching says how likely two Patient resources tell of one person. It is the arithmetic behind Patient/$match
// and knows neither SQL nor requests: who is compared with whom, package resources finds out by searches that show a
// caller no more than any search does.
//
// The model is that of Fellegi and Sunter (1969): each field that both resources have speaks for or against, by how much
// more often it looks like that among records of one person than among records of two. Read weights.go first.
package matching
