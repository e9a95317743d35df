"""What each key of a credential file says, for the reference; a test compares the names with the struct."""

from __future__ import annotations

ABOUT: dict[str, str] = {
    "kind": "which service: `folder`",
    "url": "the queue, `folder:///srv/train`, or with no queue in it all behind it; `?queue=NAME` for one of those",
    "runtime": "`container`: all jobs run in images; `process`: jobs without `image` also run as processes",
    "paths": "directories that `folder://` URLs of jobs may name, and that process jobs may read and write",
    "stores": "URL prefixes of other stores",
    "secrets": "names of secrets that jobs may ask for",
    "network": "names of networks that jobs may ask for",
    "capabilities": "names of capabilities that jobs may ask for",
    "mounts": "names of mounts that jobs may ask for",
    "allow_endpoints": "hosts that jobs may name beside public ones",
    "weight": "this queue's part of the box beside other queues",
    "dialect": "the format of messages: `native`",
    "results": "where receipts, logs and uploads stand, in one directory for each queue; absent: in the queue's own",
    "lease": "a claim lapses after so long without a sign of life",
    "timeout": "wall time of an attempt that names none; absent: the box's",
    "user_max_running": "jobs of one user that run at once on a box",
    "sole_reader": "no other box reads this queue, so what does not fit now is kept",
}
