package main

import "context"

func strangers() []string { return []string{elsewhere} }

func steer(ctx context.Context, w *world, o options, report func(result)) error { return nil }
