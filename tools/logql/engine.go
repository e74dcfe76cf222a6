// A LogQL engine over entries in memory: reads entries and queries as JSON on stdin, writes answers to stdout.
//
// Built within a clone of github.com/go-faster/oteldb, whose engine is internal to it: see check.py.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/go-faster/oteldb/internal/iterators"
	"github.com/go-faster/oteldb/internal/logql"
	"github.com/go-faster/oteldb/internal/logql/logqlengine"
	"github.com/go-faster/oteldb/internal/logql/logqlengine/logqlabels"
	"github.com/go-faster/oteldb/internal/otelstorage"
)

type entry struct {
	// Nanoseconds since the epoch.
	Time   int64             `json:"time"`
	Line   string            `json:"line"`
	Labels map[string]string `json:"labels"`
}

type question struct {
	Query string `json:"query"`
	// Nanoseconds since the epoch; equal, and without a step, for one moment.
	Start int64 `json:"start"`
	End   int64 `json:"end"`
	Step  int64 `json:"step"`
}

type answer struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

type memory struct {
	entries []entry
}

func (m *memory) Capabilities() (caps logqlengine.QuerierCapabilities) {
	return caps
}

func (m *memory) Query(_ context.Context, selector []logql.LabelMatcher) (logqlengine.PipelineNode, error) {
	return &node{m, selector}, nil
}

type node struct {
	memory   *memory
	selector []logql.LabelMatcher
}

func (n *node) Traverse(visit logqlengine.NodeVisitor) error {
	return visit(n)
}

func (n *node) matches(labels map[string]string) bool {
	for _, matcher := range n.selector {
		value := labels[string(matcher.Label)]
		var is bool
		switch matcher.Op {
		case logql.OpEq:
			is = value == matcher.Value
		case logql.OpNotEq:
			is = value != matcher.Value
		case logql.OpRe:
			is = matcher.Re.MatchString(value)
		case logql.OpNotRe:
			is = !matcher.Re.MatchString(value)
		}
		if !is {
			return false
		}
	}
	return true
}

func (n *node) EvalPipeline(_ context.Context, params logqlengine.EvalParams) (logqlengine.EntryIterator, error) {
	var found []logqlengine.Entry
	for _, one := range n.memory.entries {
		at := time.Unix(0, one.Time)
		if at.Before(params.Start) || at.After(params.End) || !n.matches(one.Labels) {
			continue
		}
		attributes := pcommon.NewMap()
		for name, value := range one.Labels {
			attributes.PutStr(name, value)
		}
		set := logqlabels.NewLabelSet()
		set.SetAttrs(otelstorage.Attrs(attributes))
		found = append(found, logqlengine.Entry{
			Timestamp: otelstorage.NewTimestampFromTime(at),
			Line:      one.Line,
			Set:       set,
		})
	}
	if params.Direction == logqlengine.DirectionBackward {
		slices.Reverse(found)
	}
	return iterators.Slice(found), nil
}

func ask(engine *logqlengine.Engine, asked question) answer {
	query, err := engine.NewQuery(context.Background(), asked.Query)
	if err != nil {
		return answer{Error: err.Error()}
	}
	data, err := query.Eval(context.Background(), logqlengine.EvalParams{
		Start:     time.Unix(0, asked.Start),
		End:       time.Unix(0, asked.End),
		Step:      time.Duration(asked.Step),
		Direction: logqlengine.DirectionForward,
		Limit:     1000,
	})
	if err != nil {
		return answer{Error: err.Error()}
	}
	encoded, err := data.MarshalJSON()
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Result: encoded}
}

func run() error {
	var input struct {
		Entries   []entry    `json:"entries"`
		Questions []question `json:"questions"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&input); err != nil {
		return err
	}
	slices.SortStableFunc(input.Entries, func(a, b entry) int { return int(a.Time - b.Time) })
	engine, err := logqlengine.NewEngine(&memory{input.Entries}, logqlengine.Options{})
	if err != nil {
		return err
	}
	answers := make([]answer, 0, len(input.Questions))
	for _, asked := range input.Questions {
		answers = append(answers, ask(engine, asked))
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
