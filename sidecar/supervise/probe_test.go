package supervise

import "fmt"

func probe(name string, args []string) error { return fmt.Errorf("no probe %q", name) }
