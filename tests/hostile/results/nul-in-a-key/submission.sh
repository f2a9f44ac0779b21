#!/bin/sh
cat >/job/out/results.json <<'END'
{"score": 0, "a\u0000b": {"\u0000": 1}}
END
