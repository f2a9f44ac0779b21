#!/bin/sh
printf '\\ud800 and \\udfff' >/job/out/feedback
