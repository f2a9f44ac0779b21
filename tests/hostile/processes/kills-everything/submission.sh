#!/bin/sh
kill -9 -1
exit 0
