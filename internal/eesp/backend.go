package eesp

import (
	"libeesp/internal/asm"
	"libeesp/internal/kernel"
)

type backend = kernel.Backend

func Backends() []string { return asm.Names() }

func BackendSupported(name string) bool { return asm.Supported(name) }

func Backend() (string, error) {
	b, err := asm.Selected()
	if err != nil {
		return "", err
	}
	return b.Name, nil
}

func SelectBackend(name string) error {
	_, err := asm.Select(name, nil)
	return err
}

func SelfTest() error { return asm.SelfTestAll() }
