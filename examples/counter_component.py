"""A component whose counter is fed by four workers at once and loses no update."""

from __future__ import annotations

from pytoweb.components import Component, html


class WordCounter(Component):
    def on_mount(self) -> None:
        self.update_state(words=0, lines=0)
        self.counters = [self.create_worker(f"counter-{number}") for number in range(4)]
        for worker in self.counters:
            worker.on_message("line", self.count)
            worker.start()

    def read(self, text: str) -> None:
        for number, line in enumerate(text.splitlines()):
            self.counters[number % len(self.counters)].post_message("line", line)

    def count(self, line: str) -> None:
        words = len(line.split())
        # A function patch, because the new values depend on the old ones.
        self.update_state(lambda state: {"words": state["words"] + words, "lines": state["lines"] + 1})

    def render(self) -> str:
        return html("<p>{words} words in {lines} lines</p>", **self.state)


if __name__ == "__main__":
    with WordCounter() as counter:  # leaving the block finishes what is queued and stops the workers
        counter.read("to be or not to be\n" * 5000)
    print(counter.render())
