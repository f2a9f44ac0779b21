#!/bin/sh
(sleep 0.3; while :; do echo late; done) &
exit 0
