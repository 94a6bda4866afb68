package agent

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"libeesp/control/pki"
	"libeesp/control/record"
)

const cacheMagic = "EESPCAC1"

// cacheKey returns the key of the cache file. It is sealed by systemd-creds, which uses the TPM if
// there is one, or in a plain file, which only protects against a copy of the cache alone.
func cacheKey(dir string, warn func(string)) ([]byte, error) {
	cred, plain := filepath.Join(dir, "cache.key.cred"), filepath.Join(dir, "cache.key")
	if b, err := os.ReadFile(cred); err == nil {
		c := exec.Command("systemd-creds", "decrypt", "--name=eespd-cache", "-", "-")
		c.Stdin = bytes.NewReader(b)
		k, err := c.Output()
		if err != nil || len(k) != 32 {
			return nil, fmt.Errorf("%s: systemd-creds: %v: was it made on another machine? without it the cache is lost: remove it, and the agent begins anew", cred, err)
		}
		return k, nil
	}
	if b, err := os.ReadFile(plain); err == nil {
		if len(b) != 32 {
			return nil, fmt.Errorf("%s: %d octets, not 32: remove it, and the agent begins anew without its cache", plain, len(b))
		}
		warn("the cache's key is a plain file: who can read this disk can read the keys of the groups")
		return b, nil
	}
	k := make([]byte, 32)
	rand.Read(k)
	c := exec.Command("systemd-creds", "encrypt", "--name=eespd-cache", "-", "-")
	c.Stdin = bytes.NewReader(k)
	if b, err := c.Output(); err == nil && len(b) > 0 {
		return k, pki.WriteFile(cred, b, 0o600)
	}
	warn("systemd-creds does not work here: the cache's key is a plain file, and who can read this disk can read the keys of the groups")
	return k, pki.WriteFile(plain, k, 0o600)
}

func cacheSealer(key, salt []byte) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, key, salt, "eesp cache v1", 32)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	b, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// cacheAAD binds a cache to this host and cluster.
func cacheAAD(cluster record.ID) []byte {
	id, _ := os.ReadFile("/etc/machine-id")
	return append(append([]byte(cacheMagic), cluster[:]...), bytes.TrimSpace(id)...)
}

func writeCache(file string, key []byte, cluster record.ID, plain []byte) error {
	salt := make([]byte, 32)
	rand.Read(salt)
	a, err := cacheSealer(key, salt)
	if err != nil {
		return err
	}
	out := append([]byte(cacheMagic), salt...)
	return pki.WriteFile(file, a.Seal(out, make([]byte, a.NonceSize()), plain, cacheAAD(cluster)), 0o600)
}

func readCache(file string, key []byte, cluster record.ID) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(b) < 40 || string(b[:8]) != cacheMagic {
		return nil, errors.New("not a cache")
	}
	a, err := cacheSealer(key, b[8:40])
	if err != nil {
		return nil, err
	}
	plain, err := a.Open(nil, make([]byte, a.NonceSize()), b[40:], cacheAAD(cluster))
	if err != nil {
		return nil, errors.New("the cache is of another host or cluster, or was changed")
	}
	return plain, nil
}
