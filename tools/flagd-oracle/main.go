// Evaluates flags by flagd's own evaluator: one question per line in, one answer per line out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	schema "github.com/open-feature/flagd-schemas/json"
	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/store"
	"github.com/open-feature/flagd/core/pkg/sync"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/zap"
)

const source = "question"

type question struct {
	// The set, as text: it may be none.
	Definitions string         `json:"definitions"`
	Key         string         `json:"key"`
	Context     map[string]any `json:"context"`
}

type answer struct {
	// Whether the set is right by flagd's JSON schema.
	Valid bool `json:"valid"`
	// Why flagd does not take the set.
	Refused string `json:"refused"`
	Value   any    `json:"value"`
	Variant string `json:"variant"`
	Reason  string `json:"reason"`
	Error   string `json:"error"`
}

type oracle struct {
	flags  *evaluator.JSON
	schema *jsonschema.Schema
}

func newOracle() (*oracle, error) {
	quiet := logger.NewLogger(zap.NewNop(), false)
	kept, err := store.NewStore(quiet, []string{source})
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	for name, text := range map[string]string{
		"flagd": schema.FlagdSchema, "flags": schema.FlagSchema, "targeting": schema.TargetingSchema,
	} {
		parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return nil, err
		}
		if err := compiler.AddResource("https://flagd.dev/schema/v0/"+name+".json", parsed); err != nil {
			return nil, err
		}
	}
	compiled, err := compiler.Compile("https://flagd.dev/schema/v0/flagd.json")
	if err != nil {
		return nil, err
	}
	return &oracle{flags: evaluator.NewJSON(quiet, kept), schema: compiled}, nil
}

func (o *oracle) ask(line []byte) (answer, error) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{}, err
	}
	var said answer
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(asked.Definitions))
	said.Valid = err == nil && o.schema.Validate(parsed) == nil
	if err := o.flags.SetState(sync.DataSync{FlagData: asked.Definitions, Source: source}); err != nil {
		said.Refused = err.Error()
		return said, nil
	}
	given := o.flags.ResolveAsAnyValue(context.Background(), "", asked.Key, asked.Context)
	said.Value, said.Variant, said.Reason = given.Value, given.Variant, given.Reason
	if given.Error != nil {
		said.Error = given.Error.Error()
	}
	return said, nil
}

func run() error {
	o, err := newOracle()
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		said, err := o.ask(lines.Bytes())
		if err != nil {
			return err
		}
		if err := out.Encode(said); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "flagd-oracle:", err)
		os.Exit(1)
	}
}
