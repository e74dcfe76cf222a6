// Reads logfmt lines on stdin as github.com/go-logfmt/logfmt does and prints one JSON object a line.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/go-logfmt/logfmt"
)

const longestLine = 1 << 20

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for number := 1; lines.Scan(); number++ {
		decoder := logfmt.NewDecoderSize(strings.NewReader(lines.Text()), longestLine)
		values := map[string]string{}
		for decoder.ScanRecord() {
			for decoder.ScanKeyval() {
				values[string(decoder.Key())] = string(decoder.Value())
			}
		}
		stopOn(decoder.Err(), number)
		stopOn(out.Encode(values), number)
	}
	stopOn(lines.Err(), 0)
}

func stopOn(err error, line int) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "line %d: %v\n", line, err)
		os.Exit(1)
	}
}
