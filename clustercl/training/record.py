"""The rows of numbers that training leaves: metrics.jsonl and TensorBoard's event files."""

import json
from pathlib import Path

from clustercl.errors import RunError
from clustercl.files import disk_is_full, read_rows, write_text


class Record:
    """Of a stage's folder. Rows beyond the checkpoint that is gone on from are dropped."""

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        write_text(self.path, "".join(f"{json.dumps(row)}\n" for row in read_rows(self.path) if row["step"] <= step))
        self.board = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, row: dict, waiting: float) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(row)}\n")
        except OSError as error:
            if not disk_is_full(error, self.path.parent):
                raise
            raise RunError(f"{self.path}: cannot be written, the disk is full: free some space, then the same command "
                           "goes on from the last checkpoint") from error  # fmt: skip
        # Times differ from run to run, which rows of metrics.jsonl never do.
        for key, value in (row | {"share_waiting_for_data": waiting}).items():
            if key != "step":
                self.board.add_scalar(key, value, row["step"])

    def close(self) -> None:
        self.board.close()
