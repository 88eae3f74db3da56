"""The command `pytoweb analyze`: facts about every Python file of a tree, found by background workers.

`source` reads one file and `outline` counts what is in it: pure functions, one call per message.
`tree` finds the files, `run` hands them to a `WorkerPool`, `totals` adds up, `report` and `render`
show it, `progress` and `stop` serve the person who waits, `command` is the command line.
"""
