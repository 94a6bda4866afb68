package asm

import "testing"

func TestSelfTestAll(t *testing.T) {
	if err := SelfTestAll(); err != nil {
		t.Fatal(err)
	}
}
