#!/bin/sh
cd /job/out
ln -s "$CANARY" a
ln -s "$CANARY" answer
ln -s "$(dirname "$CANARY")" directory
ln -s / b
ln -s nowhere c
ln -s d d
