# SPDX-License-Identifier: MIT
# Flags shared by every C target of the project.
option(HAC_WERROR "Make compiler warnings errors (on in this project's own builds)" OFF)
set(HAC_SANITIZE "" CACHE STRING "Sanitizers for every target: address,undefined or thread")

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Assertions stay in: the tests are made of them, and the library's are cheap.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g" CACHE STRING "" FORCE)
set(CMAKE_C_FLAGS_RELEASE "-O2" CACHE STRING "" FORCE)
if(NOT CMAKE_BUILD_TYPE AND NOT HAC_SANITIZE)
	set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()

find_package(Threads REQUIRED)

add_library(hac_flags INTERFACE)
# The library looks at the application's memory as words, whatever its type.
target_compile_options(hac_flags INTERFACE -Wall -Wextra -fno-strict-aliasing)
target_compile_definitions(hac_flags INTERFACE _GNU_SOURCE=)
target_link_libraries(hac_flags INTERFACE Threads::Threads)
if(HAC_WERROR)
	target_compile_options(hac_flags INTERFACE -Werror)
endif()
if(HAC_SANITIZE)
	target_compile_options(hac_flags INTERFACE
		-fsanitize=${HAC_SANITIZE} -fno-sanitize-recover=all
		-fno-omit-frame-pointer -g -O1)
	target_link_options(hac_flags INTERFACE -fsanitize=${HAC_SANITIZE})
	# TSan doesn't follow fences. What it makes of that is seen in its reports.
	if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND HAC_SANITIZE MATCHES "thread")
		target_compile_options(hac_flags INTERFACE -Wno-tsan)
	endif()
endif()
