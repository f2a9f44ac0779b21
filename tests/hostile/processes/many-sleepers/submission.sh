#!/bin/sh
i=0
while [ $i -lt 1000 ]; do sleep 100 & i=$((i+1)); done
wait
