// Command gen writes the amd64 assembly of internal/asm's backends with avo. Run it
// through `make generate`. `make check-generated` fails if the committed output differs.
package main

import (
	"flag"
	"log"
	"os"

	"github.com/mmcloughlin/avo/build"

	"libeesp/internal/gen/pack"
)

func main() {
	backend := flag.String("backend", "", "vaes512, vaes256 or aesni")
	flag.Parse()
	switch *backend {
	case "vaes512":
		vaes512()
	case "vaes256":
		vaes256()
	case "aesni":
		aesni()
	default:
		log.Fatalf("unknown backend %q", *backend)
	}
	os.Args = []string{"gen", "-backend", *backend} // what the output says it came from, on any machine
	build.Generate()
	out := flag.Lookup("out").Value.String()
	text, err := os.ReadFile(out)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(out, pack.Lines(text), 0o644); err != nil {
		log.Fatal(err)
	}
}
