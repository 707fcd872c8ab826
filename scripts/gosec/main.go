// Command gosec runs gosec's rules and analyzers on packages, given by their directories,
// and fails on what they find. It is gosec's own command without what that can do besides:
// to have a language model write the repair takes three vendors' clients, which are
// four fifths of it to compile.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"

	"github.com/securego/gosec/v2"
	"github.com/securego/gosec/v2/analyzers"
	"github.com/securego/gosec/v2/report/text"
	"github.com/securego/gosec/v2/rules"
)

func main() {
	conf := flag.String("conf", "", "file of gosec's configuration")
	flag.Parse()
	sound, err := run(os.Stdout, *conf, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "gosec:", err)
	}
	if err != nil || !sound {
		os.Exit(1)
	}
}

// run says whether nothing was found, and writes what was.
func run(out io.Writer, conf string, directories []string) (sound bool, err error) {
	config := gosec.NewConfig()
	if conf != "" {
		file, err := os.Open(conf)
		if err != nil {
			return false, err
		}
		defer file.Close()
		if _, err := config.ReadFrom(file); err != nil {
			return false, fmt.Errorf("read %s: %w", conf, err)
		}
	}
	excluded, err := config.GetExcludeRules()
	if err != nil {
		return false, fmt.Errorf("read %s: %w", conf, err)
	}
	filter, err := gosec.NewPathExclusionFilter(excluded)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", conf, err)
	}
	analyzer := gosec.NewAnalyzer(config, false, false, false, runtime.GOMAXPROCS(0), log.New(io.Discard, "", 0))
	analyzer.LoadRules(rules.Generate(false).RulesInfo())
	analyzer.LoadAnalyzers(analyzers.Generate(false).AnalyzersInfo())
	if err := analyzer.Process(nil, directories...); err != nil {
		return false, err
	}
	issues, metrics, faults := analyzer.Report()
	issues, _ = filter.FilterIssues(issues)
	metrics.NumFound = len(issues)
	if len(issues) == 0 && len(faults) == 0 {
		return true, nil
	}
	return false, text.WriteReport(out, gosec.NewReportInfo(issues, metrics, faults), false)
}
