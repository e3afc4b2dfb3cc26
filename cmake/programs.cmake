# SPDX-License-Identifier: MIT
# C tests, examples and benchmarks: one file, one program.
enable_testing()
add_custom_target(c-tests)

file(GLOB HAC_TESTS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/c/test_*.c)
foreach(file ${HAC_TESTS})
	cmake_path(GET file STEM name)
	add_executable(${name} ${file})
	target_link_libraries(${name} PRIVATE hac_internal hac_flags)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY tests)
	add_dependencies(c-tests ${name})
	add_test(NAME ${name} COMMAND ${name})
	set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()

function(hac_programs folder group)
	file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.c)
	foreach(file ${files})
		cmake_path(GET file STEM name)
		add_executable(${group}-${name} ${file})
		target_link_libraries(${group}-${name} PRIVATE hac hac_flags)
		set_target_properties(${group}-${name} PROPERTIES
			OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY ${group})
	endforeach()
endfunction()
hac_programs(examples/c examples)
hac_programs(microbench microbench)
