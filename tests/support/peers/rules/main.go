// Reads alert rules as Prometheus does: syntax, expressions, templates. Writes the names of the metrics of
// each expression, as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	read := parser.NewParser(parser.Options{})
	groups, problems := rulefmt.ParseFile(os.Args[1], false, model.UTF8Validation, read, slog.Default())
	for _, problem := range problems {
		fmt.Fprintln(os.Stderr, problem)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
	names := map[string][]string{}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			expression, err := read.ParseExpr(rule.Expr)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
				if selector, ok := node.(*parser.VectorSelector); ok {
					names[rule.Alert] = append(names[rule.Alert], selector.Name)
				}
				return nil
			})
		}
	}
	written, _ := json.Marshal(names)
	fmt.Println(string(written))
}
