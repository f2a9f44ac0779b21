#!/bin/sh
printf '{"score": 0, "tests": [{}%s]}' "$(yes ',{}' | head -n 99999 | tr -d '\n')" >/job/out/results.json
