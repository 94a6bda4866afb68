// Package setup makes and reads the files of servers and agents.
package setup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sys/unix"

	"libeesp/control/pki"
)

// sealed is the format of files that are encrypted with a passphrase: root keys and backups.
type sealed struct {
	Format string `json:"format"`
	Kind   string `json:"kind"`
	KDF    string `json:"kdf"`
	Time   uint32 `json:"time"`
	Memory uint32 `json:"memory"` // KiB
	Salt   []byte `json:"salt"`
	Data   []byte `json:"data"`
}

const sealedFormat = "eesp sealed v1"

func (s *sealed) aead(pass []byte) (cipher.AEAD, error) {
	if s.KDF != "argon2id" || s.Time == 0 || s.Time > 64 || s.Memory < 1<<10 || s.Memory > 1<<21 {
		return nil, errors.New("not a way to derive keys that this version knows")
	}
	k := argon2.IDKey(pass, s.Salt, s.Time, s.Memory, 1, 32)
	defer clear(k)
	b, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

func checkPass(pass []byte) error {
	if len(pass) < 8 {
		return errors.New("the passphrase is shorter than 8 octets")
	}
	return nil
}

// SealFile encrypts data with a passphrase and writes it. The derived key is used once, so the nonce is zero.
func SealFile(file, kind string, data, pass []byte) error {
	if err := checkPass(pass); err != nil {
		return err
	}
	s := sealed{Format: sealedFormat, Kind: kind, KDF: "argon2id", Time: 3, Memory: 64 << 10, Salt: make([]byte, 32)}
	rand.Read(s.Salt)
	a, err := s.aead(pass)
	if err != nil {
		return err
	}
	s.Data = a.Seal(nil, make([]byte, a.NonceSize()), data, []byte(sealedFormat+kind))
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return pki.WriteFile(file, b, 0o600)
}

// OpenFile reads and decrypts a file that SealFile wrote.
func OpenFile(file, kind string, pass []byte) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var s sealed
	if json.Unmarshal(b, &s) != nil || s.Format != sealedFormat || s.Kind != kind {
		return nil, fmt.Errorf("%s: no %s", file, kind)
	}
	a, err := s.aead(pass)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	d, err := a.Open(nil, make([]byte, a.NonceSize()), s.Data, []byte(sealedFormat+kind))
	if err != nil {
		return nil, fmt.Errorf("%s: wrong passphrase, or the file was changed", file)
	}
	return d, nil
}

// NewPassphrase is Passphrase for what is sealed now: a passphrase that is typed is asked for twice.
func NewPassphrase(file, prompt string) ([]byte, error) {
	p, err := Passphrase(file, prompt)
	if err != nil || file != "" || os.Getenv("EESP_PASSPHRASE") != "" {
		return p, err
	}
	if err := checkPass(p); err != nil {
		return nil, err
	}
	again, err := Passphrase("", prompt+", again")
	if err == nil && !bytes.Equal(p, again) {
		err = errors.New("the two passphrases differ")
	}
	return p, err
}

// Passphrase reads a passphrase from a file, the environment or the terminal.
func Passphrase(file, prompt string) ([]byte, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		return []byte(strings.TrimRight(string(b), "\r\n")), err
	}
	if p := os.Getenv("EESP_PASSPHRASE"); p != "" {
		return []byte(p), nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errors.New("no terminal to ask for the passphrase: give --passphrase-file, or EESP_PASSPHRASE")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	if t, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		quiet := *t
		quiet.Lflag &^= unix.ECHO
		if unix.IoctlSetTermios(fd, unix.TCSETS, &quiet) == nil {
			defer unix.IoctlSetTermios(fd, unix.TCSETS, t)
		}
	}
	fmt.Fprint(tty, prompt+": ")
	defer fmt.Fprintln(tty)
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := tty.Read(one); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if one[0] == '\n' || one[0] == '\r' {
			return line, nil
		}
		line = append(line, one[0])
	}
}
