#!/bin/sh
ln -s "$(dirname "$CANARY")" /job/dir
