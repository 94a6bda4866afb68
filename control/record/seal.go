package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// ValueLen is the length of a root key's value in octets.
const ValueLen = 32

// KEKLen is the length of a KEK in octets.
const KEKLen = 32

const (
	saltLen       = 32
	tagLen        = 16
	hpkePublicLen = 1216
	hpkeSealedLen = 1120 + KEKLen + tagLen
)

// Value is the secret of a generation.
type Value = [ValueLen]byte

// KEK is a key that seals a ring's values. Step derives the next one; it cannot be reversed.
type KEK [KEKLen]byte

// FingerprintOf returns a value's fingerprint under a root key ID and generation.
func FingerprintOf(ring ID, gen uint64, v *Value) (f Fingerprint) {
	info := append([]byte("eesp fingerprint v1"), ring[:]...)
	info = binary.BigEndian.AppendUint64(info, gen)
	k, err := hkdf.Key(sha256.New, v[:], nil, string(info), len(f))
	if err != nil {
		panic(err) // lengths are constant
	}
	copy(f[:], k)
	return f
}

// Step replaces the KEK of one step by that of a later one.
func (k *KEK) Step(cluster, ring ID, epoch, to uint32) {
	info := append([]byte("eesp kek step v1"), cluster[:]...)
	info = append(info, ring[:]...)
	info = binary.BigEndian.AppendUint32(info, epoch)
	info = binary.BigEndian.AppendUint32(info, to)
	n, err := hkdf.Expand(sha256.New, k[:], string(info), KEKLen)
	if err != nil {
		panic(err)
	}
	copy(k[:], n)
	clear(n)
}

// sealer returns the AEAD for one sealed part. Its key is used only once.
func (k *KEK) sealer(salt, public []byte) (cipher.AEAD, error) {
	h := sha256.Sum256(public)
	key, err := hkdf.Key(sha256.New, k[:], salt, "eesp ring v1"+string(h[:]), 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// public returns the record without its sealed part.
func (r *Ring) public() ([]byte, error) {
	p := *r
	p.Sealed = nil
	return encode(&p)
}

// Seal sets the fingerprints of values, one for each of r.Gens, and the sealed part, with a new salt.
func (r *Ring) Seal(k *KEK, values []Value) error {
	salt := make([]byte, saltLen)
	rand.Read(salt)
	return r.sealWith(k, values, salt)
}

func (r *Ring) sealWith(k *KEK, values []Value, salt []byte) error {
	if len(values) != len(r.Gens) {
		return fmt.Errorf("ring has %d generations, %d values", len(r.Gens), len(values))
	}
	plain := make([]byte, 0, len(values)*ValueLen)
	defer func() { clear(plain[:cap(plain)]) }()
	for i := range values {
		r.Gens[i].Fingerprint = FingerprintOf(r.ID, r.Gens[i].Gen, &values[i])
		plain = append(plain, values[i][:]...)
	}
	pub, err := r.public()
	if err != nil {
		return err
	}
	a, err := k.sealer(salt, pub)
	if err != nil {
		return err
	}
	r.Sealed = a.Seal(append([]byte(nil), salt...), make([]byte, a.NonceSize()), plain, pub)
	return nil
}

// Values opens the sealed part. It returns an error if a value does not have the fingerprint in the
// record.
func (r *Ring) Values(k *KEK) ([]Value, error) {
	if len(r.Sealed) != saltLen+tagLen+len(r.Gens)*ValueLen {
		return nil, ErrSealed
	}
	pub, err := r.public()
	if err != nil {
		return nil, err
	}
	a, err := k.sealer(r.Sealed[:saltLen], pub)
	if err != nil {
		return nil, err
	}
	plain, err := a.Open(nil, make([]byte, a.NonceSize()), r.Sealed[saltLen:], pub)
	if err != nil {
		return nil, ErrSealed
	}
	defer clear(plain)
	vs := make([]Value, len(r.Gens))
	for i := range vs {
		copy(vs[i][:], plain[i*ValueLen:])
		f := FingerprintOf(r.ID, r.Gens[i].Gen, &vs[i])
		if subtle.ConstantTimeCompare(f[:], r.Gens[i].Fingerprint[:]) != 1 {
			clear(vs)
			return nil, fmt.Errorf("%w: fingerprint of generation %d", ErrSealed, r.Gens[i].Gen)
		}
	}
	return vs, nil
}

// NewHPKEKey makes a key pair to which KEKs are sealed, for an instance or a session.
func NewHPKEKey() (hpke.PrivateKey, error) { return hpke.MLKEM768X25519().GenerateKey() }

// HPKEKey reads a private key, as its method Bytes writes it.
func HPKEKey(b []byte) (hpke.PrivateKey, error) { return hpke.MLKEM768X25519().NewPrivateKey(b) }

func sealKEK(to []byte, info []byte, k *KEK) ([]byte, error) {
	pk, err := hpke.MLKEM768X25519().NewPublicKey(to)
	if err != nil {
		return nil, fmt.Errorf("%w: HPKE key: %v", ErrMalformed, err)
	}
	return hpke.Seal(pk, hpke.HKDFSHA256(), hpke.AES256GCM(), info, k[:])
}

func openKEK(sk hpke.PrivateKey, info, sealed []byte) (k KEK, err error) {
	b, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
	if err != nil || len(b) != KEKLen {
		return k, ErrSealed
	}
	copy(k[:], b)
	clear(b)
	return k, nil
}

// info returns HPKE's info, which binds a KEK to the other fields of its grant: single-shot HPKE has no
// associated data.
func (r *Grant) info(cluster ID, sessionKey []byte) []byte {
	h := sha256.Sum256(sessionKey)
	b := append([]byte("eesp kek v1"), cluster[:]...)
	b = append(b, byte(r.Level))
	b = append(b, r.Ring[:]...)
	b = binary.BigEndian.AppendUint32(b, r.KEKEpoch)
	b = binary.BigEndian.AppendUint32(b, r.KEKStep)
	b = append(b, r.Member[:]...)
	b = append(b, r.Session[:]...)
	b = append(b, h[:]...)
	return append(b, r.Instance[:]...)
}

// SealKEK seals a KEK into the grant, for the session with this public key.
func (r *Grant) SealKEK(cluster ID, sessionKey []byte, k *KEK) (err error) {
	r.Sealed, err = sealKEK(sessionKey, r.info(cluster, sessionKey), k)
	return err
}

// OpenKEK opens the KEK in a grant with the session's private key.
func (r *Grant) OpenKEK(cluster ID, sk hpke.PrivateKey) (KEK, error) {
	return openKEK(sk, r.info(cluster, sk.PublicKey().Bytes()), r.Sealed)
}

func (r *Escrow) info(cluster, instance ID) []byte {
	b := append([]byte("eesp escrow v1"), cluster[:]...)
	b = append(b, r.Ring[:]...)
	b = binary.BigEndian.AppendUint32(b, r.Epoch)
	b = binary.BigEndian.AppendUint32(b, r.Step)
	return append(b, instance[:]...)
}

// SealTo seals a KEK to each instance.
func (r *Escrow) SealTo(cluster ID, k *KEK, instances []Instance) error {
	r.Keys = nil
	for i := range instances {
		s, err := sealKEK(instances[i].HPKE, r.info(cluster, instances[i].ID), k)
		if err != nil {
			return err
		}
		r.Keys = append(r.Keys, EscrowKey{instances[i].ID, s})
	}
	return nil
}

// Open opens the KEK for an instance with its private key.
func (r *Escrow) Open(cluster, instance ID, sk hpke.PrivateKey) (KEK, error) {
	for _, k := range r.Keys {
		if k.Instance == instance {
			return openKEK(sk, r.info(cluster, instance), k.Sealed)
		}
	}
	return KEK{}, fmt.Errorf("%w: nothing for this instance", ErrSealed)
}
