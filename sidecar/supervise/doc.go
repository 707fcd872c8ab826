// Package supervise runs the processes of a sandbox and keeps them apart.
//
//	init    privileged, outside        opens, starts, reaps, forwards; parses nothing hostile
//	 ├─ worker   own uid, confined     parses hostile bytes, holds material; restarted when it dies
//	 └─ stage    PID 1 of the sandbox  pid, mount, ipc, uts, cgroup namespaces in the sealed network
//	     └─ agent    child user namespace: root in there, nobody outside
//
// Run is init, Work is the worker and Stage is the sandbox's PID 1. All are the
// same program started again through /proc/self/exe with another command.
// What one hands to the next travels by inherited descriptors, never by
// environment or argument.
package supervise
