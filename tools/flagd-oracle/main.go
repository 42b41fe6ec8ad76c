// Evaluates flags by flagd's own evaluator: one JSON object per line in, one per line out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/store"
	"github.com/open-feature/flagd/core/pkg/sync"
	"go.uber.org/zap"
)

type question struct {
	Flags   json.RawMessage `json:"flags"`
	Key     string          `json:"key"`
	Context map[string]any  `json:"context"`
}

type answer struct {
	Value   any    `json:"value"`
	Variant string `json:"variant"`
	Reason  string `json:"reason"`
	Error   string `json:"error"`
}

func ask(line []byte) (answer, error) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{}, err
	}
	quiet := logger.NewLogger(zap.NewNop(), false)
	kept, err := store.NewStore(quiet, []string{"test"})
	if err != nil {
		return answer{}, err
	}
	flags := evaluator.NewJSON(quiet, kept)
	data := sync.DataSync{FlagData: string(asked.Flags), Source: "test"}
	if err := flags.SetState(data); err != nil {
		return answer{}, err
	}
	given := flags.ResolveAsAnyValue(context.Background(), "", asked.Key, asked.Context)
	said := answer{Value: given.Value, Variant: given.Variant, Reason: given.Reason}
	if given.Error != nil {
		said.Error = given.Error.Error()
	}
	return said, nil
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		said, err := ask(lines.Bytes())
		if err != nil {
			said = answer{Error: fmt.Sprintf("cannot be read: %v", err)}
		}
		if err := out.Encode(said); err != nil {
			os.Exit(1)
		}
	}
}
