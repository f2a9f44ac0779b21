#!/bin/sh
ln -s /dev/zero /job/results.json
