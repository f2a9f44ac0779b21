#!/bin/sh
score=0
[ -e /job ] && score=66
[ -n "$(tail -n +2 /proc/net/route)" ] && score=66
ls /autograder/submission/answer >/dev/null || score=66
echo "{\"score\": $score}" >/autograder/results/results.json
