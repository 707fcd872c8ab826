//go:build race

package smuggle_test

// every is which vectors are sent: with the race detector, which makes each cost
// several times as much, a third of them, more than a thousand.
const every = 3
