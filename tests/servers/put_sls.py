"""Sends logs with the Log Service's own client: what other clients send can be compared with it.

`put_sls.py PORT < REQUEST`, where REQUEST is JSON: `{"project": …, "logstore": …, "topic": …, "source": …, "tags":
[[key, value], …], "logs": [{"time": SECONDS, "time_ns": NANOSECONDS, "contents": [[key, value], …]}, …]}`."""

import json
import socket
import sys

from aliyun.log import LogClient, LogItem, PutLogsRequest


def here(name, *args, resolve=socket.getaddrinfo):
    """Every name is this machine's."""
    return resolve("127.0.0.1", *args)


if __name__ == "__main__":
    request = json.load(sys.stdin)
    socket.getaddrinfo = here
    client = LogClient("log.test:" + sys.argv[1], "id", "secret", auth_version="v4", region="cn-hangzhou")
    client.put_logs(
        PutLogsRequest(
            request["project"],
            request["logstore"],
            request["topic"],
            request["source"],
            [LogItem(log["time"], [tuple(pair) for pair in log["contents"]], log["time_ns"]) for log in request["logs"]],
            logtags=[tuple(pair) for pair in request["tags"]],
        )
    )
