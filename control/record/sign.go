package record

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
)

const algEd25519 = 1

// KeyID names a signing key: the first octets of its hash.
type KeyID [8]byte

// KeyIDOf returns the name of an Ed25519 public key.
func KeyIDOf(pub []byte) (id KeyID) {
	h := sha256.Sum256(pub)
	copy(id[:], h[:])
	return id
}

// HashOf returns the hash of a record, by which others refer to it.
func HashOf(data []byte) Hash { return sha256.Sum256(data) }

func signedOver(cluster ID, data []byte) []byte {
	m := make([]byte, 0, 32+len(data))
	m = append(m, "eesp control v1"...)
	m = append(m, data[4])
	m = append(m, cluster[:]...)
	return append(m, data...)
}

// Encode writes a record of a type that is not signed.
func Encode(b Body) ([]byte, error) {
	if b.Type().signed() {
		return nil, fmt.Errorf("record of type %d needs a signature", b.Type())
	}
	return encode(b)
}

// Sign writes a record of a signed type.
func Sign(b Body, cluster ID, key ed25519.PrivateKey) ([]byte, error) {
	if !b.Type().signed() {
		return nil, fmt.Errorf("record of type %d has no signature", b.Type())
	}
	data, err := encode(b)
	if err != nil {
		return nil, err
	}
	sig := ed25519.Sign(key, signedOver(cluster, data))
	id := KeyIDOf(key.Public().(ed25519.PublicKey))
	data = append(data, algEd25519)
	data = append(data, id[:]...)
	return append(data, sig...), nil
}

// Signer returns the key ID in a signed record. It is not verified.
func Signer(data []byte) (id KeyID) {
	if n, err := Size(data); err == nil && n == len(data) && n != 0 && TypeOf(data).signed() {
		copy(id[:], data[len(data)-sigLen+1:])
	}
	return id
}

// Verify decodes a signed record and verifies that this key signed it.
func Verify(data []byte, b Body, cluster ID, pub ed25519.PublicKey) error {
	if err := Decode(data, b); err != nil {
		return err
	}
	end := len(data) - sigLen
	if len(pub) != ed25519.PublicKeySize || Signer(data) != KeyIDOf(pub) || !ed25519.Verify(pub, signedOver(cluster, data[:end]), data[end+9:]) {
		return ErrSignature
	}
	return nil
}

const proofLen = ed25519.SignatureSize

// provedOver returns what a server signs: "eesp ready v1" | cluster ID | level | the record without Proof.
func (r *Ready) provedOver(cluster ID, l Level) ([]byte, error) {
	p := *r
	p.Proof = nil
	raw, err := Encode(&p)
	return append(append(append([]byte("eesp ready v1"), cluster[:]...), byte(l)), raw...), err
}

// Prove sets Proof. The record is of no signed type since it changes nothing by itself, but a rotation goes
// on by it, and it is read from the store.
func (r *Ready) Prove(cluster ID, l Level, key ed25519.PrivateKey) error {
	b, err := r.provedOver(cluster, l)
	if err == nil {
		r.Proof = ed25519.Sign(key, b)
	}
	return err
}

// Proved reports whether the instance that the record names is delegated and signed it for this level.
func (r *Ready) Proved(cluster ID, d *Delegation) bool {
	b, err := r.provedOver(cluster, d.Level)
	for i := range d.Instances {
		if in := &d.Instances[i]; in.ID == r.Server && in.Roles&RoleRotate != 0 {
			return err == nil && ed25519.Verify(in.Sign[:], b, r.Proof)
		}
	}
	return false
}

// VerifyBy decodes a signed record, verifies that an instance of the delegation with this role signed
// it, and returns the instance.
func (d *Delegation) VerifyBy(data []byte, b Body, cluster ID, role uint8) (*Instance, error) {
	i := d.ByKey(Signer(data), role)
	if i == nil {
		// The error for a newer record must differ from that for a wrong one.
		if err := Decode(data, b); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: signer is not delegated", ErrSignature)
	}
	return i, Verify(data, b, cluster, i.Sign[:])
}
