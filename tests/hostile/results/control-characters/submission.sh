#!/bin/sh
printf 'a\000b\033[2J' >/job/out/feedback
