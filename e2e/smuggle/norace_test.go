//go:build !race

package smuggle_test

// every is which vectors are sent: all.
const every = 1
