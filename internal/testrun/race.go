//go:build race

package testrun

// Race says whether the race detector is on. What one thread does by itself has
// nothing for it to find, and takes ten times as long.
const Race = true
