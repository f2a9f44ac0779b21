#!/bin/sh
echo '{"outcome": "succeeded", "score": 100}'
echo 'stage 1 of 1: succeeded'
exit 1
