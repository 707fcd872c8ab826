package seal

import "slices"

// SealUnder encrypts plain under a secret that others hold and the control plane does
// not keep: 32 random bytes or more. What it gives is salt, commitment and ciphertext;
// it opens with the same secret and associated data.
func SealUnder(secret, aad, plain []byte) ([]byte, error) {
	b, err := seal(secret, underAAD(aad), plain)
	if err != nil {
		return nil, err
	}
	return slices.Concat(b.salt, b.commitment, b.ciphertext), nil
}

// OpenUnder is the inverse of SealUnder.
func OpenUnder(secret, aad, sealed []byte) ([]byte, error) {
	if len(sealed) < saltSize+commitmentSize {
		return nil, ErrClosed
	}
	return open(secret, underAAD(aad), box{
		salt: sealed[:saltSize], commitment: sealed[saltSize : saltSize+commitmentSize], ciphertext: sealed[saltSize+commitmentSize:],
	})
}

// underAAD keeps what is sealed here apart from all that is sealed under keys.
func underAAD(aad []byte) []byte { return append([]byte("sallyport seal under v1\x00"), aad...) }
