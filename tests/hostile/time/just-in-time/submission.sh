#!/bin/sh
sleep 0.5
exit 0
