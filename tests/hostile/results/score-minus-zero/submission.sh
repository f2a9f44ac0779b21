#!/bin/sh
cat >/job/out/results.json <<'END'
{"score": -0.0}
END
