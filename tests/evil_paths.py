"""A file that does something to the process that decodes it; a module that is imported fast."""

import os
import signal
import time


class EvilPath:
    """A path whose looking at crashes the process, or does not end."""

    def __init__(self, action):
        self.action = action

    def __fspath__(self):
        if self.action == "hang":
            time.sleep(100)
        os.kill(os.getpid(), signal.SIGSEGV)


class EvilLabel:
    """A label map whose reading does so."""

    def __init__(self, action):
        self.action = action

    def read(self, label_set, limits):
        os.fspath(EvilPath(self.action))


class EvilSource:
    """Another source, of which reading one example does so."""

    def __init__(self, source, index, action):
        self.source = source
        self.index = index
        self.action = action

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        if index == self.index:
            os.fspath(EvilPath(self.action))
        return self.source[index]
