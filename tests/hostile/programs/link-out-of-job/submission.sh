#!/bin/sh
ln -s "$CANARY" /job/a.out
