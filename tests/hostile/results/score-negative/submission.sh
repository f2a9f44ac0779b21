#!/bin/sh
cat >/job/out/results.json <<'END'
{"score": 0, "tests": [{"score": -5}, {"score": 1}], "max_score": -1}
END
