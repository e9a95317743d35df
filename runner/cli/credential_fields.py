"""What each key of a credential file says, for the reference; a test compares the names with the structs."""

from __future__ import annotations

ABOUT: dict[str, str] = {
    "kind": "which service: `folder`, `redis`, `rabbitmq` or `sqs`; `registry`, a login for images; `secret`, a "
    "directory of secrets",
    "directory": "of secrets, one file per name, of root or of the runner's user, closed to others; not in `certs_dir`",
    "url": "the queue, or with no queue in it all behind it: `folder:///srv/train`, `redis://host:6379/0`, "
    "`amqp://host/vhost`, `sqs://region/`; `?queue=NAME` for one of those, in SQS `sqs://region/NAME`",
    "host": "a registry of images or a part of it, `ghcr.io/lab`",
    "token": "an identity token of a registry, instead of username and password",
    "username": "who logs in; of queues it may stand in `url`, too",
    "password": "with which password; of queues it may stand in `url`, too, percent-encoded",
    "ca_file": "certificates that the service's own must lead to, beside the system's",
    "management": "the HTTP API of RabbitMQ, `http://host:15672`, where its queues are listed",
    "queue_type": "`quorum` or `classic`, for queues that are made here",
    "region": "of AWS, where `url` names none; absent: the default chain's",
    "access_key": "of AWS, with `secret_key`; absent: the default chain (environment, web identity, instance role)",
    "secret_key": "of AWS, with `access_key`",
    "session_token": "of AWS, where the keys are temporary",
    "profile": "a profile of the AWS files of the runner's own user, instead of keys",
    "endpoint": "another address than that of AWS, `http://127.0.0.1:4566`",
    "match": "regular expression (RE2); of the queues behind the file only those that it finds are read",
    "mismatch": "regular expression (RE2); queues behind the file that it finds are left alone",
    "runtime": "`container`: all jobs run in images; `process`: jobs without `image` also run as processes",
    "paths": "directories that `folder://` URLs of jobs may name, and that process jobs may read and write",
    "stores": "URL prefixes of other stores",
    "secrets": "names of secrets that jobs may ask for; a file of kind `secret` names where they are",
    "network": "names of networks that jobs may ask for; each is a bridge of its own on the box",
    "capabilities": "capabilities that jobs may ask for, `CAP_PERFMON`",
    "mounts": "directories of the box that jobs may ask to read, at the same path",
    "allow_endpoints": "hosts that jobs may name beside public ones",
    "weight": "this queue's part of the box beside other queues",
    "dialect": "the format of messages: `native`",
    "results": "where receipts, logs and uploads stand, `folder:///srv/results` or `redis://host:6379/0`; absent: "
    "beside a queue of kind `folder` or `redis`, else nowhere",
    "sinks": "where its jobs' logs go as well: URLs of sinks (below)",
    "lease": "a claim lapses after so long without a sign of life",
    "timeout": "wall time of an attempt that names none; absent: the box's",
    "user_max_running": "jobs of one user that run at once on a box",
    "cut_off": "`run on`, or `stop`: what becomes of jobs whose claim could not be renewed for a whole lease, so that "
    "another box may begin them",
    "root": "jobs are root inside their containers, where the engine gives that another user (user namespaces)",
    "seccomp": "a file with the seccomp profile of their containers; absent: the engine's own",
    "oci_runtime": "which of the engine's runtimes runs their containers",
    "secrets_in_env": "secrets are variables, too, not only files; of a container, the engine keeps and tells those",
    "images": "patterns of the images that jobs may name, `127.0.0.1:5000/lab/*`; absent: all",
    "pull": "`missing`, `always` or `never`: when an image is asked for at its registry",
    "push": "beginnings, in whole parts, of the names under which jobs may push what they built",
    "build_network": "the network of image builds",
    "sole_reader": "no other box reads this queue, so what does not fit now is kept",
}
