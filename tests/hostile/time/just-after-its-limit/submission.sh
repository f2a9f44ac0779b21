#!/bin/sh
sleep 1.05
exit 0
