"""The demonstration, `make run`: facts about every Python file of a tree, found by background workers.

`source` reads one file and `outline` counts what is in it: pure functions, one call per message.
`tree` finds the files, `run` has them analysed by a `WorkerPool`, whose workers run what is in `task`;
`courier` posts the messages and takes the results back, `totals` adds up, `speed` compares with one
thread on a sample that `spread` chooses, `report` and `render` show it, `progress` and `stop` serve the
person who waits, `command` is the command line.
"""
