#!/bin/sh
mkfifo /job/out/answer
exit 0
