#!/bin/sh
cat >/job/out/results.json <<'END'
{"score": 0, "n": 9223372036854775808}
END
