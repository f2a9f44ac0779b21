#!/bin/sh
ln -s nowhere /job/a.out
