// Reads a compose file as `docker compose config` does, with the loader of its authors: schema,
// references between services, paths. Writes what it has read, as JSON.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithResolvedPaths(true))
	if err == nil {
		project, problem := options.LoadProject(context.Background())
		if err = problem; err == nil {
			var read []byte
			if read, err = project.MarshalJSON(); err == nil {
				fmt.Println(string(read))
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
