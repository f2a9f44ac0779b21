#!/bin/sh
echo '{"score": 1, "max_points": 2}' >/grade/results/results.json
